mod agrees;
mod both;
mod generated;
mod table;
