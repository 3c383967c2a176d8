//! Filters: which resources a client asks for (RFC 7644, section 3.4.2.2).

use std::cmp::Ordering;

use scim_v2::filter as grammar;

use super::document::folded;
use super::names::{Attribute, Form};
use super::path::{AttributePath, Name};
use super::shown::{MemberOf, Shown};
use super::tokens;
use super::value::{Object, Value};
use super::{FILTER_BYTES_MAX, Kind, Refusal};
use crate::time;

/// A filter.
///
/// An attribute without a value equals `null` and nothing else, and an attribute that the schemas do
/// not know has no value. `ne` is the opposite of `eq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Node);

/// A part of a filter.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Present(Operand),
    Compare(Operand, Operator, Literal),
    /// One value of the attribute fits the filter in brackets.
    Within(Operand, Box<Node>),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// An attribute that a filter names.
#[derive(Clone, Debug, PartialEq)]
struct Operand {
    /// The name as it was written, without a URN; it counts within brackets.
    name: String,
    /// The name as it counts elsewhere.
    whole: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
    Order(Order),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    Null,
    Bool(bool),
    Text(String),
}

/// The index in which a filter can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKey {
    /// The SCIM id, exact.
    Id,
    /// `userName`, folded.
    UserName,
    /// `externalId`, exact.
    ExternalId,
    /// `displayName`, folded.
    DisplayName,
    /// The value of one of `emails`, folded.
    Email,
    /// The SCIM id of one of a group's `members`, exact.
    Member,
}

/// A value that every resource which the filter finds must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The attribute.
    pub key: ProbeKey,
    /// The value, in the form that [`super::Keys`] has it.
    pub text: String,
}

impl Filter {
    /// Reads a filter. Names and operators may be in any case, and a value without quotes is a
    /// text.
    ///
    /// # Errors
    /// `invalidFilter`: it is not a filter, compares a boolean by order, or is too long or too deep.
    pub fn parse(text: &str) -> Result<Filter, Refusal> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(Refusal::filter(format!(
                "the filter is longer than {FILTER_BYTES_MAX} bytes"
            )));
        }
        let unreadable = || Refusal::filter("the filter does not follow RFC 7644, section 3.4.2.2");
        let regular = tokens::regular(text).ok_or_else(unreadable)?;
        let parsed: grammar::Filter = regular.parse().map_err(|_| unreadable())?;
        Ok(Filter(node(&parsed)?))
    }

    /// Returns a value that every resource which the filter finds must have, if there is an index
    /// of it. The filter must still be asked about each that the index names.
    pub fn probe(&self) -> Option<Probe> {
        conjuncts(&self.0).iter().filter_map(|node| probe(node)).min_by_key(|probe| probe.key)
    }

    /// Reports if the filter finds a resource.
    pub fn matches(&self, resource: &Shown<'_>) -> bool {
        self.0.matches(resource)
    }

    /// Reports if the filter of a path such as `members[…]` finds a member.
    pub fn matches_member(&self, member: &MemberOf) -> bool {
        self.finds(super::names::core(Kind::Group, "members"), &member.object(""))
    }

    /// Reports if the filter finds one value of an attribute.
    pub(crate) fn finds(&self, attribute: Option<&'static Attribute>, value: &Object) -> bool {
        self.0.finds(attribute, value)
    }

    /// Returns the comparisons, if the filter is only `eq` joined by `and`: names as they were
    /// written, and values.
    pub(crate) fn equalities(&self) -> Option<Vec<(&str, Value)>> {
        let mut found = Vec::new();
        for node in conjuncts(&self.0) {
            let Node::Compare(operand, Operator::Equal, literal) = node else { return None };
            found.push((operand.name.as_str(), literal.value()));
        }
        Some(found)
    }

    /// Reports if the filter of a path names a part of the values, in any case.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.0.names(name)
    }

    /// Returns the number of its comparisons.
    pub(crate) fn comparisons(&self) -> usize {
        self.0.comparisons()
    }

    /// Returns the values, if the filter is only `value eq` joined by `or`.
    pub(crate) fn values(&self) -> Option<Vec<String>> {
        let nodes = match &self.0 {
            Node::Any(nodes) => nodes.iter().collect(),
            node => vec![node],
        };
        nodes.into_iter().map(|node| value_of(node).map(str::to_owned)).collect()
    }
}

fn node(filter: &grammar::Filter) -> Result<Node, Refusal> {
    Ok(match filter {
        grammar::Filter::Attr(expression) => leaf(expression)?,
        grammar::Filter::ValuePath(path) => {
            Node::Within(operand(&path.attr)?, Box::new(inner(&path.filter)?))
        }
        grammar::Filter::Not(filter) => Node::Not(Box::new(node(filter)?)),
        grammar::Filter::And(filters) => {
            Node::All(filters.iter().map(node).collect::<Result<_, _>>()?)
        }
        grammar::Filter::Or(filters) => {
            Node::Any(filters.iter().map(node).collect::<Result<_, _>>()?)
        }
    })
}

fn inner(filter: &grammar::ValFilter) -> Result<Node, Refusal> {
    Ok(match filter {
        grammar::ValFilter::Attr(expression) => leaf(expression)?,
        grammar::ValFilter::Not(filter) => Node::Not(Box::new(inner(filter)?)),
        grammar::ValFilter::And(filters) => {
            Node::All(filters.iter().map(inner).collect::<Result<_, _>>()?)
        }
        grammar::ValFilter::Or(filters) => {
            Node::Any(filters.iter().map(inner).collect::<Result<_, _>>()?)
        }
    })
}

fn leaf(expression: &grammar::AttrExp) -> Result<Node, Refusal> {
    match expression {
        grammar::AttrExp::Present(path) => Ok(Node::Present(operand(path)?)),
        grammar::AttrExp::Comparison(path, operator, value) => {
            let (operand, literal) = (operand(path)?, literal(value));
            let operator = operator_of(operator);
            let by_order = matches!(operator, Operator::Order(_));
            if by_order && (operand.is_boolean() || !matches!(literal, Literal::Text(_))) {
                return Err(Refusal::filter("a boolean or null cannot be compared by order"));
            }
            Ok(Node::Compare(operand, operator, literal))
        }
    }
}

fn operand(path: &grammar::AttrPath) -> Result<Operand, Refusal> {
    let whole = Name::parse(&path.to_string())
        .ok_or_else(|| Refusal::filter("the filter has a name that is not one of an attribute"))?;
    let sub = path.sub_attr.as_ref().map(|sub| format!(".{sub}")).unwrap_or_default();
    let name = format!("{}{sub}", path.name);
    Ok(Operand { name, whole })
}

fn operator_of(operator: &grammar::CompareOp) -> Operator {
    match operator {
        grammar::CompareOp::Eq => Operator::Equal,
        grammar::CompareOp::Ne => Operator::NotEqual,
        grammar::CompareOp::Co => Operator::Contains,
        grammar::CompareOp::Sw => Operator::StartsWith,
        grammar::CompareOp::Ew => Operator::EndsWith,
        grammar::CompareOp::Gt => Operator::Order(Order::Greater),
        grammar::CompareOp::Ge => Operator::Order(Order::GreaterOrEqual),
        grammar::CompareOp::Lt => Operator::Order(Order::Less),
        grammar::CompareOp::Le => Operator::Order(Order::LessOrEqual),
    }
}

fn literal(value: &grammar::CompValue) -> Literal {
    match value {
        grammar::CompValue::False => Literal::Bool(false),
        grammar::CompValue::True => Literal::Bool(true),
        grammar::CompValue::Null => Literal::Null,
        grammar::CompValue::Number(number) => Literal::Text(number.to_string()),
        grammar::CompValue::Str(text) => Literal::Text(text.clone()),
    }
}

impl Literal {
    fn text(&self) -> Option<&str> {
        match self {
            Literal::Text(text) => Some(text),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        match self {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Text(text) => Value::Text(text.clone()),
        }
    }
}

impl Operand {
    /// Reports if every attribute of this name is a boolean.
    fn is_boolean(&self) -> bool {
        let is_boolean = |path: &AttributePath| {
            let attribute = if path.sub.is_some() { path.part } else { path.definition };
            attribute.is_some_and(|attribute| attribute.form == Form::Boolean)
        };
        is_boolean(&self.whole.user)
            || is_boolean(&self.whole.group)
            || self.name.eq_ignore_ascii_case("primary")
    }
}

/// Returns the parts that must all fit.
fn conjuncts(node: &Node) -> Vec<&Node> {
    match node {
        Node::All(nodes) => nodes.iter().flat_map(conjuncts).collect(),
        node => vec![node],
    }
}

/// Returns the text of `value eq "…"`.
fn value_of(node: &Node) -> Option<&str> {
    match node {
        Node::Compare(operand, Operator::Equal, Literal::Text(text))
            if operand.name.eq_ignore_ascii_case("value") =>
        {
            Some(text)
        }
        _ => None,
    }
}

fn probe(node: &Node) -> Option<Probe> {
    let (operand, text) = match node {
        Node::Compare(operand, Operator::Equal, Literal::Text(text)) => (operand, text.as_str()),
        Node::Within(operand, inner) => (operand, conjuncts(inner).into_iter().find_map(value_of)?),
        _ => return None,
    };
    let is_within = matches!(node, Node::Within(..));
    let whole = |path: &AttributePath, name: &str| path.is_core(name) && path.sub.is_none();
    let value = |path: &AttributePath, name: &str| {
        path.is_core(name) && path.sub.as_deref().is_none_or(|sub| sub == "value")
    };
    let Name { user, group } = &operand.whole;
    let key = if value(user, "emails") {
        ProbeKey::Email
    } else if value(group, "members") {
        ProbeKey::Member
    } else if is_within {
        return None;
    } else if whole(user, "id") {
        ProbeKey::Id
    } else if whole(user, "userName") {
        ProbeKey::UserName
    } else if whole(user, "externalId") {
        ProbeKey::ExternalId
    } else if whole(user, "displayName") {
        ProbeKey::DisplayName
    } else {
        return None;
    };
    let text = match key {
        ProbeKey::Id | ProbeKey::ExternalId | ProbeKey::Member => text.to_owned(),
        ProbeKey::UserName | ProbeKey::DisplayName | ProbeKey::Email => folded(text),
    };
    Some(Probe { key, text })
}

impl Node {
    fn comparisons(&self) -> usize {
        match self {
            Node::Present(_) | Node::Compare(..) => 1,
            Node::Within(_, node) | Node::Not(node) => node.comparisons(),
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().map(Node::comparisons).sum(),
        }
    }

    fn names(&self, name: &str) -> bool {
        match self {
            Node::Present(operand) | Node::Compare(operand, ..) => {
                operand.name.eq_ignore_ascii_case(name)
            }
            Node::Within(_, node) | Node::Not(node) => node.names(name),
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().any(|node| node.names(name)),
        }
    }

    fn matches(&self, resource: &Shown<'_>) -> bool {
        match self {
            Node::Not(node) => !node.matches(resource),
            Node::All(nodes) => nodes.iter().all(|node| node.matches(resource)),
            Node::Any(nodes) => nodes.iter().any(|node| node.matches(resource)),
            Node::Present(operand) => {
                let path = operand.whole.of(resource.kind);
                resource.values(path).iter().any(|value| !value.is_unassigned())
            }
            Node::Compare(operand, operator, literal) => {
                let path = operand.whole.of(resource.kind);
                match resource.is_related(path, *operator == Operator::Equal, literal.text()) {
                    Some(answer) => answer,
                    None => compare_any(&resource.values(path), path, *operator, literal),
                }
            }
            Node::Within(operand, inner) => {
                let path = operand.whole.of(resource.kind);
                // A named member is looked up before the members are listed.
                if let Some(id) = conjuncts(inner).into_iter().find_map(value_of) {
                    match resource.is_related(path, true, Some(id)) {
                        Some(false) => return false,
                        Some(true) if value_of(inner).is_some() => return true,
                        _ => {}
                    }
                }
                let values = resource.values(path);
                let elements = values.iter().flat_map(|value| match value {
                    Value::List(elements) => elements.as_slice(),
                    value => std::slice::from_ref(value),
                });
                elements
                    .filter_map(Value::object)
                    .any(|element| inner.finds(path.definition, element))
            }
        }
    }

    /// Reports if the filter in brackets finds one value of an attribute.
    fn finds(&self, attribute: Option<&'static Attribute>, element: &Object) -> bool {
        match self {
            Node::Not(node) => !node.finds(attribute, element),
            Node::All(nodes) => nodes.iter().all(|node| node.finds(attribute, element)),
            Node::Any(nodes) => nodes.iter().any(|node| node.finds(attribute, element)),
            Node::Present(operand) => {
                element.get(&operand.name).is_some_and(|value| !value.is_unassigned())
            }
            Node::Compare(operand, operator, literal) => {
                let part = attribute.and_then(|attribute| attribute.part(&operand.name));
                let form = part.map_or(Form::Text, |part| part.form);
                let values: Vec<&Value> = element.get(&operand.name).into_iter().collect();
                compare(&values, form, *operator, literal)
            }
            Node::Within(..) => false,
        }
    }
}

/// Compares the values of a path: of a list, and of a complex value, the `value`s.
fn compare_any(
    values: &[Value],
    path: &AttributePath,
    operator: Operator,
    literal: &Literal,
) -> bool {
    let form = path.compared_form();
    let mut plain: Vec<&Value> = Vec::new();
    for value in values {
        let elements = match value {
            Value::List(elements) => elements.as_slice(),
            value => std::slice::from_ref(value),
        };
        plain.extend(elements.iter().filter_map(|element| match element {
            Value::Object(object) => object.get("value"),
            element => Some(element),
        }));
    }
    compare(&plain, form, operator, literal)
}

fn compare(values: &[&Value], form: Form, operator: Operator, literal: &Literal) -> bool {
    if operator == Operator::NotEqual {
        return !compare(values, form, Operator::Equal, literal);
    }
    if *literal == Literal::Null {
        let is_present = values.iter().any(|value| !value.is_unassigned());
        return operator == Operator::Equal && !is_present;
    }
    values.iter().any(|value| compare_one(value, form, operator, literal))
}

fn compare_one(value: &Value, form: Form, operator: Operator, literal: &Literal) -> bool {
    let given = match literal {
        Literal::Text(text) => text.as_str(),
        Literal::Bool(true) => "true",
        Literal::Bool(false) => "false",
        Literal::Null => return false,
    };
    let text = match value {
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Text(text) | Value::Number(text) => text.as_str(),
        Value::Null | Value::List(_) | Value::Object(_) => return false,
    };
    if form == Form::Time
        && let Some((ours, given)) = time::parse(text).zip(time::parse(given))
    {
        return ordered(ours.cmp(&given), operator);
    }
    if matches!(value, Value::Number(_))
        && let Some((ours, given)) = text.parse::<f64>().ok().zip(given.parse::<f64>().ok())
        && let Operator::Order(_) = operator
    {
        return ours.partial_cmp(&given).is_some_and(|order| ordered(order, operator));
    }
    if form == Form::Exact {
        return compare_texts(text, given, operator);
    }
    compare_texts(&folded(text), &folded(given), operator)
}

fn compare_texts(text: &str, given: &str, operator: Operator) -> bool {
    match operator {
        Operator::Contains => text.contains(given),
        Operator::StartsWith => text.starts_with(given),
        Operator::EndsWith => text.ends_with(given),
        Operator::Equal | Operator::NotEqual | Operator::Order(_) => {
            ordered(text.cmp(given), operator)
        }
    }
}

fn ordered(found: Ordering, operator: Operator) -> bool {
    match operator {
        Operator::Order(Order::Greater) => found.is_gt(),
        Operator::Order(Order::GreaterOrEqual) => found.is_ge(),
        Operator::Order(Order::Less) => found.is_lt(),
        Operator::Order(Order::LessOrEqual) => found.is_le(),
        Operator::Equal => found.is_eq(),
        Operator::NotEqual => found.is_ne(),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith => false,
    }
}
